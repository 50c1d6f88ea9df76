#!/usr/bin/perl

# Tests for a client whose lease has ended and that still takes back what it
# registered, its own Contact or `Contact: *`: it may as long as the identity
# is his who had it last, and rests; never when it is another's.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(25);

# nothing but a message makes a worker look; one identity in the small pool

my $dir = $t->testdir();

ims_keys($t);
ims_pool($t);
ims_poolctl($t, 'pool', 'create', 'small', 'ims.example', '--ttl', 8,
    '--ttl-max', 8, '--delay', 2, '--margin', 1, '--min-expires', 1);
ims_poolctl($t, 'import', 'small', '--range', 'sip:small-[1-1]@ims.example');

$t->write_file_expand('nginx.conf', ims_conf($t, lease_check => '60s',
    grace => '300s', min_expires => 1,
    issuers => <<"    END",
        ims_issuer site {
            iss     https://localhost;
            aud     ims.example;
            alg     ES256;
            key     k1 $dir/site.pub.pem $dir/site.key.pem;
            pool    web small;
            origin  http://localhost;
        }
    END
    locations => <<'    END'));
        location = /ims/small {
            ims_identity       small issuer=site;
            ims_identity_user  $remote_user;
        }
    END
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($c, $m, $link);

# revoked; the identity rests for its last holder, and what he takes back is
# what the edge would take back, too: his Contact, whatever he says

for (
    ['*, with the token', contact => '*', expires => 0],
    ['*, without', contact => '*', expires => 0, token => undef],
    ['his Contact, without the token', expires => 0, token => undef],
) {
    my ($name, %over) = @$_;

    $c = ImsClient->new();
    $c->registered($core);
    ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
    $c->send($c->{ua}->register(%over));

    my $contacts = taken_back();

    ok(@$contacts > 0, "revoked, $name: taken back");
    is(scalar(grep { $_ !~ /^<\Q${\$c->{ua}->contact()}\E>.*;expires=0$/ }
              @$contacts), 0, 'his Contact, no *');
    is(($c->{ws}->closed(5))[0], 1008, 'and closed');
    ok($core->silent(0.3), 'that was all');
}

# he has returned: what the old flow takes back could be that of the new one

$c = ImsClient->new();
$c->registered($core);
ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});

my $again = ImsClient->new(user => $c->{user});
is($again->{id}{impu}, $c->{id}{impu}, 'returned, on another lease');
$again->registered($core);

$c->send($c->{ua}->register(contact => '*', expires => 0, token => undef));
ok($core->silent(2), '* of the old flow: nothing reaches the core');
is(($c->{ws}->closed(5))[0], 1008, 'and it is closed');
ok($again->alive(), 'the new flow is served');

# another has it

my $first = ImsClient->new(user => 'first', identity => '/ims/small');
$first->registered($core);
my $token = $first->{ua}{token};

my $reply;
ok(ims_wait(60, sub {
    $reply = ims_identity(user => 'second', uri => '/ims/small');
    $reply->{status} == 200;
}), 'run out, rested, and given to another');
is($reply->{json}{impu}, $first->{id}{impu}, 'the same identity');

# what the edge took back of the first one, when its lease ran out

taken_back(1);

my $second = ImsClient->new(user => 'second', identity => '/ims/small');
is($second->{id}{lease}, $reply->{json}{lease}, 'by the other one');
$second->registered($core);

for my $over (
    { contact => '*', expires => 0 },
    { contact => '*', expires => 0, token => undef },
    { expires => 0 },
) {
    my $old = ImsClient->new(ws => undef);

    $old->{ua} = $first->{ua};
    $old->connect();
    $old->send($old->{ua}->register(%$over));

    my $answer = $old->answer();
    ok($answer && $answer->{status} =~ /^40[13]$/,
        'the first one, ' . ($over->{contact} // 'its Contact') . ': refused');
}

ok($core->silent(1), 'nothing reaches the core');
ok($second->alive(), 'the second one is served');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# the Contacts that are taken back now, by the client or by the edge

sub taken_back {
    my ($seconds) = @_;

    my @contacts;

    while (my ($m, $link) = $core->request($seconds // (@contacts ? 2 : 5))) {
        push @contacts, sip_header($m, 'Contact')
            if sip_header($m, 'Expires') eq '0';
        $core->reply($link, $m, 200, 'OK', contact => '');
    }

    return \@contacts;
}

###############################################################################
