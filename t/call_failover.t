#!/usr/bin/perl

# Tests for calls and messages while the core is away: what is sent again, what
# waits, and that nobody is rung up for a call that was answered 503.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(43);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $again, $a);

my $c = ImsClient->new(user => 'alice');
ImsCall::registered($c, $core);

# a link that breaks is no failed request: the same bytes again, on a new one

my $d = ImsCall->calls($c, $core);
$c->send($d->from_client('ACK', cseq => 1));
is(($core->request())[0]->{method}, 'ACK', 'in a call');

for my $text ($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
                  call_id => 'again'), $d->from_client('INFO'))
{
    $c->send($text);
    ($m, $link) = $core->request();
    $core->close($link);
    ($again, $link) = $core->request();
    is($again ? $again->{text} : 'nothing', $m->{text},
        "$m->{method}: sent again");
    $core->reply($link, $again, 200, 'OK');
    is($c->answer()->{status}, 200, "$m->{method}: answered");
}

# an INVITE that was not heard of is sent again, one that rings is not

my $call = ImsCall->calls($c, $core, until => 'invite');
$core->close($call->{link});
($again, $call->{link}) = $core->request();
is($again ? $again->{text} : 'nothing', $call->{invite}{text},
    'INVITE: sent again');
is($call->far_reply(180, 'Ringing')->{status}, 180, 'it rings');
$core->close($call->{link});
ok($core->silent(0.3), 'and is not sent a third time');

# the core is away for longer than it may be: what rings waits, all else fails

away();
$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
    call_id => 'away'));
$a = $c->answer();
is($a->{status} . ' ' . sip_header($a, 'Call-ID'), '503 away',
    '503 for a message');
like(sip_header($a, 'Retry-After'), qr/^\d+$/, 'with Retry-After');
ok(!defined $c->{ws}->recv(0.3), 'not for the call');
back();
$call->{link} = $core->connect(port(8070));
is($call->far_reply(200, 'OK')->{status}, 200, 'which is answered');
$c->send($call->from_client('ACK', cseq => 1));
is(($core->request())[0]->{method}, 'ACK', 'ACK');
$c->send($call->from_client('BYE'));
($m, $link) = $core->request();
is($m->{method}, 'BYE', 'and ended');
$core->reply($link, $m, 200, 'OK');
$c->answer();

# a CANCEL for it is kept until the core is there

$call = ImsCall->calls($c, $core, until => 'ringing');
away();
$c->send(cancel($call->{sent}));
is($c->answer()->{status}, 200, 'CANCEL answered');
ok(!defined $c->{ws}->recv(3), 'the core is away');
back();
($m, $link) = $core->request(8);
is($m ? $m->{method} : 'nothing', 'CANCEL', 'CANCEL when it is back');
is(sip_header($m, 'Via'), sip_header($call->{invite}, 'Via'), 'of that call');
$core->reply($link, $m, 200, 'OK');
$core->reply($link, $call->{invite}, 487, 'Terminated', to_tag => 'x');
is(($core->request())[0]->{method}, 'ACK', 'ACK of its 487');
is($c->answer()->{status}, 487, 'which the client gets');

# a CANCEL that may have been lost with its link is sent again

$call = ImsCall->calls($c, $core, until => 'ringing');
$c->send(cancel($call->{sent}));
is($c->answer()->{status}, 200, 'CANCEL answered');
($m, $link) = $core->request();
is($m->{method}, 'CANCEL', 'and sent');
$core->close($link);
($again, $link) = $core->request();
is($again ? $again->{text} : 'nothing', $m->{text}, 'sent again');
$core->reply($link, $again, 200, 'OK');
$core->reply($link, $call->{invite}, 487, 'Terminated', to_tag => 'x');
is(($core->request())[0]->{method}, 'ACK', 'ACK of its 487');
is($c->answer()->{status}, 487, 'which the client gets');
ok($core->silent(0.2), 'an answered one is not');

# no ghost calls: what was answered 503 is cancelled when the core is back

for my $late ('nothing', 'ringing', 'answer') {
    $call = ImsCall->calls($c, $core, until => 'invite');
    away();
    my $start = time();
    $a = $c->answer(6);
    is($a->{status}, 503, "$late: 503 to the caller");
    cmp_ok(time() - $start, '<', 15, "$late: in time");
    back();

    # another core may have had it, and answers by our Via

    my $other = $core->connect(port(8070));
    my @extra = (to_tag => 'bob', extra => [
        'Record-Route: ' . ImsCall::far_route() . ", $call->{core_route}",
        "Contact: <$call->{far_uri}>" ]);

    $core->send($other, sip_reply($call->{invite}, 200, 'OK', @extra))
        if $late eq 'answer';
    $core->send($other, sip_reply($call->{invite}, 180, 'Ringing', @extra))
        if $late eq 'ringing';

    my %got;
    while (my ($m, $link) = $core->request(%got ? 1 : 8)) {
        $got{$m->{method}}++;
        $core->reply($link, $m, 200, 'OK') if $m->{method} ne 'ACK';
    }

    is_deeply(\%got, { CANCEL => 1,
        $late eq 'answer' ? (ACK => 1, BYE => 1) : () },
        "$late: ended when the core is back") or diag explain \%got;
    ok(!defined $c->{ws}->recv(0.1), "$late: the caller hears no more of it");
}

# one that never left is nobody's

away();
$call = undef;
$c->send($c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
    call_id => 'unsent', from_tag => 'x', cseq => 1));
is($c->answer()->{status}, 100, 'trying');
is($c->answer(6)->{status}, 503, '503 without a core');
back();
ok($core->silent(3), 'nothing to be cancelled');

ok($c->alive(), 'the flow is there');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# the core's node is gone, with its connections

sub away {
    $core->silent(0);
    $core->deaf();
    $core->close($_) for $core->links();
}


sub back {
    $core = ImsCore->new(port(8060));
}


sub cancel {
    my ($invite) = @_;

    return $invite =~ s/^INVITE/CANCEL/r
        =~ s/^(CSeq: \d+ )INVITE/$1CANCEL/mr
        =~ s/^(?:Contact|Content-Type): .*\r\n//mgr
        =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/msr;
}

###############################################################################
