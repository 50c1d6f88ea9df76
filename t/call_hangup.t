#!/usr/bin/perl

# Tests for a call whose caller is gone: it is cancelled, and an answer that
# comes all the same is hung up, so that nobody is left in it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(13);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $far = '<sip:scscf@127.0.0.1:' . port(8060) . ';lr>';

my $c = ImsClient->new(user => 'alice');
$c->registered($core);

$c->send($c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
    from_tag => 'alice', call_id => 'gone', cseq => 7,
    extra => [ 'Contact: <' . $c->{ua}->contact() . '>' ]));

my ($invite, $link) = $core->request();
is($c->answer()->{status}, 100, 'trying');

my $rr = "$far, " . sip_header($invite, 'Record-Route');
my @extra = ("Record-Route: $rr", 'Contact: <sip:bob@192.0.2.1:5062>');

$core->reply($link, $invite, 180, 'Ringing', to_tag => 'bob',
             extra => \@extra);
is($c->answer()->{status}, 180, 'ringing');

$c->{ws}->drop();

my ($m) = $core->request();
is($m->{method}, 'CANCEL', 'the caller is gone: CANCEL');
is((sip_headers($m, 'Via'))[0], (sip_headers($invite, 'Via'))[0],
    'of this INVITE');

# bob was faster

$core->reply($link, $m, 200, 'OK');
$core->reply($link, $invite, 200, 'OK', to_tag => 'bob', extra => \@extra);

($m) = $core->request();
is($m->{method}, 'ACK', 'ACK of the answer');
is($m->{ruri}, 'sip:bob@192.0.2.1:5062', 'to its Contact');
is(join('|', sip_headers($m, 'Route')), $far, 'by the far route');
is(sip_header($m, 'CSeq'), '7 ACK', 'with the number of the INVITE');

($m) = $core->request();
is($m->{method}, 'BYE', 'and BYE');
is(sip_header($m, 'CSeq'), '8 BYE', 'the next number');
like(sip_header($m, 'To'), qr/;tag=bob$/, 'in this dialog');
is(sip_header($m, 'Call-ID'), 'gone', 'of this call');

is(ims_status()->{counters}{hangup}, 1, 'counted');

###############################################################################
