#!/usr/bin/perl
# Fills a fresh Request Tracker 5 database: the queue ContactCenter with custom fields, the account `bridge`
# and a token for it, which is printed. Usage: rt_seed.pl PASSWORD
use strict;
use warnings;
use lib '/usr/share/request-tracker5/lib';
use RT;

my $password = shift or die "usage: rt_seed.pl PASSWORD\n";
RT::LoadConfig();
RT::Init();

sub ok { my ($id, $message) = @_; die "rt_seed: $message\n" unless $id; return $id }

my $queue = RT::Queue->new(RT->SystemUser);
ok($queue->Create(
    Name              => 'ContactCenter',
    Description       => 'Contact-centre sessions',
    CorrespondAddress => 'support@rt.test',
    CommentAddress    => 'support-comment@rt.test',
));

my %type = (
    (map { $_ => 'Freeform-1' } qw(SessionId Channel Disposition HandleMinutes Rating RecordingUrl)),
    AgentNotes => 'Text-1',
);
for my $name (sort keys %type) {
    my $field = RT::CustomField->new(RT->SystemUser);
    ok($field->Create(Name => $name, TypeComposite => $type{$name}, LookupType => 'RT::Queue-RT::Ticket'));
    ok($field->AddToObject($queue));
}

my $user = RT::User->new(RT->SystemUser);
ok($user->Create(Name => 'bridge', EmailAddress => 'agent@example.test', RealName => 'The bridge',
    Password => $password, Privileged => 1));
ok($user->PrincipalObj->GrantRight(Right => $_, Object => $queue))
    for qw(SeeQueue CreateTicket ShowTicket ShowTicketComments ModifyTicket CommentOnTicket ReplyToTicket
           OwnTicket Watch SeeCustomField ModifyCustomField SetInitialCustomField);

# Anybody may write to the queue by mail.
my $everyone = RT::Group->new(RT->SystemUser);
ok($everyone->LoadSystemInternalGroup('Everyone'));
ok($everyone->PrincipalObj->GrantRight(Right => $_, Object => $queue))
    for qw(CreateTicket ReplyToTicket CommentOnTicket);

require RT::AuthToken;
my $token = RT::AuthToken->new(RT->SystemUser);
my ($id, $message, $secret) = $token->Create(Owner => $user->Id, Description => 'live tests');
ok($id, $message);
print "$secret\n";
